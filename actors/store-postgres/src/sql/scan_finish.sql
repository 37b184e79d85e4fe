-- A scan is finished when every partition is recorded.
with found as (
    select count(*) as partitions, sum(p.differences)::bigint as differences,
        sum(p.rows)::bigint as rows, sum(p.expected)::bigint as expected
    from refold.scan_partitions p
    where p.scan = $1
)
update refold.verifications s
set finished_at = clock_timestamp(), verified_at = clock_timestamp(),
    differences = found.differences, rows = found.rows, expected = found.expected
from found, refold.versions v
where s.id = $1 and s.finished_at is null
    and v.id = s.version_from and v.partitions = found.partitions
returning 1
