-- What the log says of rows that differ as expected, and rows that were put right.

-- The pairs that a scan chose among those that differ as expected, as its snapshots showed
-- them: the log is asked about these very rows, however far the versions have come since.
-- Only the latest scan of two versions keeps them.
create table refold.scan_rows (
    scan      uuid not null references refold.verifications (id),
    partition integer not null,
    -- Its place in the order of choice: the lowest ones of all partitions are chosen.
    rank      bigint not null,
    key       bytea not null,
    -- Cells in binary form, each with its length in front.
    old_cells bytea not null,
    old_seq   bigint not null,
    old_off   bigint not null,
    new_cells bytea not null,
    new_seq   bigint not null,
    new_off   bigint not null
);

create index scan_rows_of on refold.scan_rows (scan, rank);

-- What the log said of one version's rows among them. Append-only; the latest counts.
create table refold.testimonies (
    id           bigint generated always as identity primary key,
    scan         uuid not null references refold.verifications (id),
    version      bigint not null references refold.versions (id),
    -- Rows that are what the log gives at the scan's offsets, and rows that are not.
    confirmed    bigint not null,
    contradicted bigint not null,
    -- Some of the latter, an object each: partition, key, both rows, where they part.
    named        jsonb not null,
    testified_at timestamptz not null default clock_timestamp()
);

create index testimonies_of on refold.testimonies (scan, version, id desc);

-- The latest testimony about a version's rows of a scan.
create function refold.latest_testimony(p_scan uuid, p_version bigint)
returns setof refold.testimonies language sql stable as $$
    select t.* from refold.testimonies t
    where t.scan = p_scan and t.version = p_version
    order by t.id desc
    limit 1
$$;

-- Rows that were put right from the log. Scans and comparisons that are older prove
-- nothing of the version any more.
create table refold.repairs (
    id          bigint generated always as identity primary key,
    version     bigint not null references refold.versions (id),
    partition   integer not null,
    key         text not null,
    -- The mark of the partition: the row is what the events below it give.
    at_offset   bigint not null,
    -- The row's columns as text, null for no row.
    before      jsonb,
    after       jsonb,
    actor       text not null,
    repaired_at timestamptz not null default clock_timestamp()
);

create index repairs_of on refold.repairs (version, repaired_at);

drop function refold.latest_scan(bigint, bigint);

-- The scan of two versions by the code that they have now on which a switch to the second
-- of them rests, whichever of them the scan named first: the youngest that found something
-- wrong, or whose rows that differ as expected (p_rows of them, if there are so many) the
-- log confirmed; while there is none of these, the youngest that read everything. Scans
-- from before a repair of one of both do not count.
create function refold.latest_scan(p_serving bigint, p_candidate bigint, p_rows bigint default 0)
returns table (
    id uuid, findings bigint, age_seconds double precision,
    expected bigint, confirmed bigint, contradicted bigint
)
language sql stable as $$
    select s.id, s.differences, extract(epoch from clock_timestamp() - s.started_at)::float8,
        s.expected, t.confirmed, t.contradicted
    from refold.verifications s
    join refold.versions f on f.id = s.version_from and f.code_hash = s.code_from
    join refold.versions t0 on t0.id = s.version_to and t0.code_hash = s.code_to
    left join lateral refold.latest_testimony(s.id, p_candidate) t on true
    where ((s.version_from = p_serving and s.version_to = p_candidate)
            or (s.version_from = p_candidate and s.version_to = p_serving))
        and (s.finished_at is not null or s.differences > 0)
        and not exists (
            select 1 from refold.repairs r
            where r.version in (s.version_from, s.version_to) and r.repaired_at >= s.started_at)
    order by
        (s.differences > 0 or coalesce(t.contradicted, 0) > 0
            or coalesce(t.confirmed, 0) >= least(s.expected, p_rows)) desc,
        s.started_at desc
    limit 1
$$;

-- The first statement of a repair: locks the version's row, as promotions and retirements do,
-- and the mark's, refuses while the session of a projector that owns the partition is there,
-- and makes the caller the owner, so that whoever wrote before is fenced off.
create function refold.repair_begin(p_version bigint, p_partition integer, p_code_hash text)
returns table (epoch bigint, next_offset bigint, sums bytea)
language plpgsql as $$
#variable_conflict use_column
declare
    v_mark refold.offsets;
    v_owner text;
begin
    perform 1 from refold.versions v where v.id = p_version for update;
    select * into v_mark from refold.offsets o
        where o.version = p_version and o.partition = p_partition for update;
    if not found or not v_mark.has_leaf then
        raise exception 'partition % of version % has no table', p_partition, p_version
            using errcode = 'PF003';
    end if;
    -- A session that may not be looked into counts as the owner's.
    select format('pid %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), 'unknown'))
        into v_owner
        from pg_stat_activity a
        where a.pid = v_mark.owner_pid and a.pid <> pg_backend_pid()
            and coalesce(a.backend_start = v_mark.owner_backend_start, true);
    if found then
        raise exception 'partition % of version % belongs to a projector that runs, %: stop it, repair, and start it again',
            p_partition, p_version, v_owner using errcode = 'PF003';
    end if;
    return query select t.epoch, t.next_offset, t.sums
        from refold.take_over(p_version, p_partition, p_code_hash, 0, ''::bytea) t;
end
$$;

-- The last statement of a repair but the fence: comparisons that were made of the rows before
-- prove nothing any more, and what was done is kept.
create function refold.repair_record(
    p_version bigint, p_partition integer, p_offset bigint, p_actor text,
    p_keys text[], p_before jsonb[], p_after jsonb[]
) returns void language plpgsql as $$
declare
    v_at timestamptz := clock_timestamp();
begin
    update refold.barriers b set state = 'void', changed_at = v_at
        where b.state in ('waiting', 'complete') and p_version in (b.version_from, b.version_to)
            and not exists (select 1 from refold.promotions p where p.barrier = b.id);
    insert into refold.repairs (version, partition, key, at_offset, before, after, actor, repaired_at)
        select p_version, p_partition, r.key, p_offset, nullif(r.before, 'null'), nullif(r.after, 'null'), p_actor, v_at
        from unnest(p_keys, p_before, p_after) r (key, before, after);
    perform refold.audit_append(p_actor, 'repair',
        (select v.label from refold.versions v where v.id = p_version),
        jsonb_build_object('version', p_version, 'partition', p_partition, 'offset', p_offset,
            'keys', to_jsonb(p_keys)));
end
$$;
