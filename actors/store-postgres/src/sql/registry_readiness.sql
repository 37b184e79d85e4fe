-- Whether every partition's history is in. Unlocked: no mark and neither flag ever goes back.
select v.state, v.label, v.partitions::bigint = (
    select count(*) from refold.offsets o
    where o.version = v.id and o.has_leaf and o.reached_log_end) as complete
from refold.versions v
where v.id = $1
