-- What a scan found has a row for each partition, written once. Before, it was one array in the
-- scan's row, written anew with every partition, and workers waited for each other's lock on it.

create table refold.scan_partitions (
    scan        uuid not null references refold.verifications (id),
    partition   integer not null,
    -- Everything that speaks against the new version, columns that do not add up included.
    differences bigint not null,
    -- Keys that were compared, and those that differ as they are meant to.
    rows        bigint not null,
    expected    bigint not null,
    -- See refold-store-postgres, PartitionScan.
    found       jsonb not null,
    primary key (scan, partition)
);

insert into refold.scan_partitions (scan, partition, differences, rows, expected, found)
select s.id, t.partition, w.keys + coalesce(jsonb_array_length(p.found -> 'untied'), 0),
    t.equal + t.expected + w.keys, t.expected, p.found
from refold.verifications s
cross join lateral jsonb_array_elements(s.partitions) p (found)
cross join lateral jsonb_to_record(p.found) t (
    partition integer, equal bigint, expected bigint,
    unexpected bigint, missing_expected bigint, only_old bigint, only_new bigint)
cross join lateral (
    select t.unexpected + t.missing_expected + t.only_old + t.only_new) w (keys)
-- Two that resumed one scan could record a partition twice.
on conflict do nothing;

-- Chosen rows come with their partition in one statement from here on; those of a worker that
-- died between the two are nobody's.
delete from refold.scan_rows r
where not exists (
    select 1 from refold.scan_partitions p where p.scan = r.scan and p.partition = r.partition);

-- A scan that runs has its numbers in its partitions only.
update refold.verifications set differences = 0, rows = 0, expected = 0 where finished_at is null;
alter table refold.verifications drop column partitions;
alter table refold.verifications alter column differences set default 0;
comment on column refold.verifications.differences is
    'Sum over the partitions, of a finished scan, as rows and expected are.';

drop function refold.scans_between(bigint, bigint);

-- The scans of two versions by the code that they have now, whichever of them the scan named first,
-- the youngest first: those that read everything, and those that have found something wrong so far.
-- Those from before a repair of one of both do not count.
create function refold.scans_between(p_serving bigint, p_candidate bigint)
returns table (id uuid, started_at timestamptz, differences bigint, expected bigint)
language sql stable as $$
    select s.id, s.started_at, greatest(s.differences, so_far.differences), s.expected
    from refold.verifications s
    join refold.versions f on f.id = s.version_from and f.code_hash = s.code_from
    join refold.versions t on t.id = s.version_to and t.code_hash = s.code_to
    -- Nothing of a finished scan.
    cross join lateral (
        select coalesce(sum(p.differences), 0)::bigint as differences
        from refold.scan_partitions p
        where p.scan = s.id and s.finished_at is null) so_far
    where ((s.version_from = p_serving and s.version_to = p_candidate)
            or (s.version_from = p_candidate and s.version_to = p_serving))
        and (s.finished_at is not null or so_far.differences > 0)
        and not exists (
            select 1 from refold.repairs r
            where r.version in (s.version_from, s.version_to) and r.repaired_at >= s.started_at)
    order by s.started_at desc
$$;
