-- Scans: what was read of the tables of two versions, partition by partition, so that
-- one that was stopped goes on, and a promotion can ask for one that is young enough.

alter table refold.verifications
    -- Fingerprints of the code that both versions had, and of the rule between them.
    add column code_from   text,
    add column code_to     text,
    add column rule        text,
    -- When its first snapshot was taken: the age of a scan counts from here.
    add column started_at  timestamptz not null default clock_timestamp(),
    add column finished_at timestamptz,
    -- Keys that were compared, and those that differ as they are meant to.
    add column rows        bigint not null default 0,
    add column expected    bigint not null default 0;

comment on column refold.verifications.partitions is
    'One object a partition, see refold-store-postgres, PartitionScan.';
comment on column refold.verifications.differences is
    'Everything that speaks against the new version, columns that do not add up included.';

create index verifications_of on refold.verifications (version_from, version_to, started_at desc);

-- The youngest scan of two versions by the code that they have now, whichever of them was
-- named first: one that read everything, or one that has found something wrong so far.
create function refold.latest_scan(p_one bigint, p_other bigint)
returns table (id uuid, findings bigint, age_seconds double precision)
language sql stable as $$
    select s.id, s.differences, extract(epoch from clock_timestamp() - s.started_at)::float8
    from refold.verifications s
    join refold.versions f on f.id = s.version_from and f.code_hash = s.code_from
    join refold.versions t on t.id = s.version_to and t.code_hash = s.code_to
    where ((s.version_from = p_one and s.version_to = p_other)
            or (s.version_from = p_other and s.version_to = p_one))
        and (s.finished_at is not null or s.differences > 0)
    order by s.started_at desc
    limit 1
$$;
