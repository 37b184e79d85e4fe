-- Parks both versions at the higher mark. A statement of its own, younger than the locks.
with higher as (
    select max(o.next_offset) as x from refold.offsets o
    where (o.version = $1 or o.version = $2) and o.partition = $3
)
insert into refold.parks (version, partition, x, until, verification)
select side.version, $3, h.x, clock_timestamp() + make_interval(secs => $5), $4
from higher h cross join (values ($1::bigint), ($2::bigint)) side (version)
returning x, pg_current_xact_id()::text as xid
