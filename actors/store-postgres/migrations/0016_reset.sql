-- A version that failed is built again from the head of the log, by the code that there is by then.

-- When it was given back its empty marks: what was scanned before proves nothing of it.
alter table refold.versions add column reset_at timestamptz;

-- The tables of a version and its view. The caller holds the version's row lock.
create function refold.drop_tables(p_version bigint) returns integer language plpgsql as $$
declare
    v_label text;
    v_table text;
    v_tables integer := 0;
begin
    select v.label into strict v_label from refold.versions v where v.id = p_version;
    -- The view of its label, if it is the one that was made over these tables.
    if exists (
        select 1 from pg_rewrite r
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass
        where r.ev_class = to_regclass(format('public.%I', v_label))
            and d.refobjid = to_regclass(format('rm.%I', format('v%s_p0', p_version)))
    ) then
        execute format('drop view public.%I', v_label);
    end if;
    for v_table in
        select c.relname from pg_class c
        where c.relnamespace = 'rm'::regnamespace and c.relkind = 'r'
            and c.relname ~ format('^v%s_p[0-9]+(_checkpoint)?$', p_version)
    loop
        execute format('drop table rm.%I', v_table);
        v_tables := v_tables + 1;
    end loop;
    delete from refold.parks where version = p_version;
    return v_tables;
end
$$;

-- As before.
create or replace function refold.drop_version(p_version bigint, p_actor text) returns integer
language plpgsql as $$
declare
    v_version refold.versions;
    v_tables integer;
begin
    select * into strict v_version from refold.versions v where v.id = p_version;
    v_tables := refold.drop_tables(p_version);
    delete from refold.offsets where version = p_version;
    update refold.versions set state = 'dropped', changed_at = clock_timestamp()
        where id = p_version;
    perform refold.audit_append(p_actor, 'drop', v_version.label,
        jsonb_build_object('version', p_version, 'tables', v_tables));
    return v_tables;
end
$$;

-- Makes a failed version one that nothing was built of yet, with the columns and the code that
-- are given. The caller has seen that it failed and that nobody reads its tables. No mark goes:
-- epochs only ever rise, so that whoever owned a partition is refused for good.
create function refold.reset_version(
    p_version bigint, p_code_hash text, p_key_type text, p_columns jsonb, p_replaces integer,
    p_actor text, p_reason text
) returns integer language plpgsql as $$
declare
    v_version refold.versions;
    v_at timestamptz := clock_timestamp();
    v_tables integer;
begin
    -- For update and nothing less: a take-over that adds a mark names this row, so that it waits
    -- or is waited for.
    select * into strict v_version from refold.versions v where v.id = p_version for update;
    -- The marks first: a load holds one of them until it ends, and its table is there then. Sums
    -- that are empty say that nobody began: the next take-over says where, and with which sums.
    update refold.offsets o
        set epoch = o.epoch + 1, next_offset = 0, start_offset = 0, last_record = null, sums = '',
            rows = 0, has_leaf = false, has_checkpoint = false, reached_log_end = false,
            owner_pid = null, owner_backend_start = null, leaf_xid = null, committed_at = null
        where o.version = p_version;
    v_tables := refold.drop_tables(p_version);
    delete from refold.parked_events where version = p_version;
    delete from refold.gaps where version = p_version;
    -- Sums that were compared at a barrier are of rows that are gone.
    update refold.barriers b set state = 'void', changed_at = v_at
        where b.state in ('waiting', 'complete') and p_version in (b.version_from, b.version_to)
            and not exists (select 1 from refold.promotions p where p.barrier = b.id);
    update refold.versions
        set state = 'building', changed_at = v_at, reset_at = v_at, note = p_reason,
            code_hash = p_code_hash, key_type = p_key_type, columns = p_columns, replaces = p_replaces
        where id = p_version;
    perform refold.audit_append(p_actor, 'reset', v_version.label,
        jsonb_build_object('version', p_version, 'tables', v_tables, 'reason', p_reason,
            'code_before', v_version.code_hash, 'code', p_code_hash));
    return v_tables;
end
$$;

-- Whether the code that asks for a partition is the one that builds the version.
create function refold.take_over_code(p_version bigint, p_code_hash text)
returns refold.versions language plpgsql as $$
declare
    v_version refold.versions;
begin
    perform refold.fence_state(p_version);
    select * into v_version from refold.versions v where v.id = p_version;
    if v_version.code_hash <> p_code_hash then
        raise exception 'version % was built by other code (stored %, running %): a changed fold or row struct needs a new version number, or a reset',
            v_version.label, v_version.code_hash, p_code_hash using errcode = 'PF003';
    end if;
    return v_version;
end
$$;

-- As before; a mark that was reset begins where the asker says, and the code is looked at once
-- more under the mark's lock: a reset may have come since the first look, and brought other code.
create or replace function refold.take_over(
    p_version bigint, p_partition integer, p_code_hash text, p_start bigint, p_empty_sums bytea,
    p_own_up_to bigint default null
) returns table (
    epoch bigint, next_offset bigint, last_record bytea, sums bytea,
    has_leaf boolean, reached_log_end boolean, switch bigint,
    start_offset bigint, has_checkpoint boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    v_version refold.versions;
    v_found bigint;
begin
    v_version := refold.take_over_code(p_version, p_code_hash);
    if p_partition < 0 or p_partition >= v_version.partitions then
        raise exception 'version % has partitions 0 to %, not %',
            v_version.label, v_version.partitions - 1, p_partition using errcode = 'PF003';
    end if;
    if v_version.state = 'building' then
        insert into refold.offsets (version, partition, epoch, next_offset, start_offset, sums)
            values (p_version, p_partition, 0, p_start, p_start, p_empty_sums)
            on conflict do nothing;
    end if;
    -- Before the lock: a successor in the middle of a load holds it for long, and is not waited for.
    perform refold.take_over_check(p_partition, o.epoch, p_own_up_to, v_version.label)
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
    update refold.offsets o
        set epoch = o.epoch + 1, owner_pid = pg_backend_pid(),
            owner_backend_start = (select a.backend_start from pg_stat_activity a
                                   where a.pid = pg_backend_pid()),
            next_offset = case when o.sums = '' then p_start else o.next_offset end,
            start_offset = case when o.sums = '' then p_start else o.start_offset end,
            sums = case when o.sums = '' then p_empty_sums else o.sums end
        where o.version = p_version and o.partition = p_partition
        returning o.epoch - 1 into v_found;
    if not found then
        raise exception 'version % is % and has no mark for partition %',
            v_version.label, v_version.state, p_partition using errcode = 'PF003';
    end if;
    -- Under the lock: a successor may have come while it was waited for. The error takes the
    -- new epoch back.
    perform refold.take_over_check(p_partition, v_found, p_own_up_to, v_version.label);
    perform refold.take_over_code(p_version, p_code_hash);
    -- A statement of its own: its snapshot is younger than the lock, so that it
    -- sees a barrier that was set while the update waited.
    return query select o.epoch, o.next_offset, o.last_record, o.sums, o.has_leaf, o.reached_log_end,
        refold.fence_barrier(p_version, p_partition, o.next_offset, o.next_offset),
        o.start_offset, o.has_checkpoint
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
end
$$;

-- As before, without scans from before a reset of one of both.
create or replace function refold.scans_between(p_serving bigint, p_candidate bigint)
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
        and s.started_at > coalesce(greatest(f.reset_at, t.reset_at), '-infinity')
        and not exists (
            select 1 from refold.repairs r
            where r.version in (s.version_from, s.version_to) and r.repaired_at >= s.started_at)
    order by s.started_at desc
$$;
