-- What the tables say of a candidate ($1) beside the version that serves, if there is one; $2
-- is how many rows that differ as expected the log has to confirm.
with serving as (
    select a.version
    from refold.active a join refold.versions c on c.name = a.name
    where c.id = $1
)
select
    (select count(*) from refold.parked_events e where e.version = $1) as parked,
    (select count(*) from refold.gaps g where g.version = $1) as gaps,
    array(select refold.partitions_without_key($1)) as without_key,
    coalesce((
        select max(live.next_offset - coalesce(new.next_offset, 0))
        from refold.offsets live
        left join refold.offsets new on new.version = $1 and new.partition = live.partition
        where live.version = (select version from serving)), 0) as lag,
    scan.findings as scan_findings, scan.age_seconds as scan_age,
    scan.expected as scan_expected,
    scan.confirmed as log_confirmed, scan.contradicted as log_contradicted
from (select 1) one
left join lateral refold.latest_scan((select version from serving), $1, $2) scan on true
