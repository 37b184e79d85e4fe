select
    (select count(*) from refold.parked_events e where e.version = $2) as parked,
    (select count(*) from refold.gaps g where g.version = $2) as gaps,
    array(select refold.partitions_without_key($2)) as without_key,
    coalesce((
        select max(live.next_offset - coalesce(new.next_offset, 0))
        from refold.offsets live
        left join refold.offsets new on new.version = $2 and new.partition = live.partition
        where live.version = $1), 0) as lag,
    scan.findings as scan_findings, scan.age_seconds as scan_age
from (select 1) one
left join refold.latest_scan($1, $2) scan on true
