-- The fence: who may write a partition, from which mark, and up to where.
--
-- PF001  another epoch or another mark: this writer is not the owner any more
-- PF002  a barrier waits inside the batch; DETAIL is the offset to cut at
-- PF003  refused for good: unknown version, wrong state, other code
-- PF010  a verification holds the mark where it is; the same batch passes shortly
--
-- All functions are volatile, so that under READ COMMITTED each statement in
-- them takes its own snapshot: what runs after the row lock sees everything
-- that whoever held the lock before has committed.

-- Why the mark could not be moved, as an error.
create function refold.fence_refuse(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint
) returns void language plpgsql as $$
declare
    v_row record;
begin
    select o.epoch, o.next_offset into v_row from refold.offsets o
        where o.version = p_version and o.partition = p_partition;
    if not found then
        raise exception 'version % has no mark for partition %', p_version, p_partition
            using errcode = 'PF001';
    elsif v_row.epoch <> p_epoch then
        raise exception 'partition % of version % belongs to epoch %, this writer holds epoch %',
            p_partition, p_version, v_row.epoch, p_epoch using errcode = 'PF001';
    else
        raise exception 'the mark of partition % of version % is %, this batch begins at %',
            p_partition, p_version, v_row.next_offset, p_from using errcode = 'PF001';
    end if;
end
$$;

-- Refuses unless projectors write to versions in this state.
--
-- The versions row is read without a lock. A state that changes right behind
-- this read lets one more batch in, which is whole (rows, mark and sums move
-- together) and harmless: retiring and failing change no mark, a drop waits for
-- the writer's lock on the leaf, and whatever lowers a mark raises the epoch
-- under the offsets row's lock, which the caller holds already.
create function refold.fence_state(p_version bigint) returns void language plpgsql as $$
declare
    v_state text;
begin
    select v.state into v_state from refold.versions v where v.id = p_version;
    if v_state is null then
        raise exception 'version % does not exist', p_version using errcode = 'PF003';
    elsif v_state not in ('building', 'ready', 'active', 'previous') then
        raise exception 'version % is % and not projected', p_version, v_state
            using errcode = 'PF003';
    end if;
end
$$;

-- Refuses a batch [p_from, p_to) that would run past a waiting barrier or past a
-- park, and returns the lowest such offset above p_to, null for none. The
-- caller holds the offsets row's lock; barriers and parks are set under a share
-- lock on the same row, so none can appear between this look and the commit.
create function refold.fence_barrier(
    p_version bigint, p_partition integer, p_from bigint, p_to bigint
) returns bigint language plpgsql as $$
declare
    v_inside bigint;
    v_above bigint;
    v_parked bigint;
begin
    select min(stop.x) filter (where stop.x > p_from and stop.x < p_to),
            min(stop.x) filter (where stop.x > p_to),
            min(stop.x) filter (where stop.park and stop.x <= p_from and p_from < p_to)
        into v_inside, v_above, v_parked
        from (
            select s.x, false as park
            from refold.barriers b
            join refold.barrier_switch s on s.barrier = b.id and s.partition = p_partition
            where b.state = 'waiting' and (b.version_from = p_version or b.version_to = p_version)
            union all
            select k.x, true
            from refold.parks k
            where k.version = p_version and k.partition = p_partition
                and k.until > clock_timestamp()
        ) as stop;
    if v_parked is not null then
        raise exception 'partition % of version % is parked at % for a verification',
            p_partition, p_version, v_parked using errcode = 'PF010';
    elsif v_inside is not null then
        raise exception 'a barrier waits at offset % inside [%, %)', v_inside, p_from, p_to
            using errcode = 'PF002', detail = v_inside::text;
    end if;
    return v_above;
end
$$;

-- The first statement of a transaction that writes a batch [p_from, p_to):
-- locks the offsets row and moves mark, sums and last record, or raises.
-- Records the ack of a barrier that waits at exactly p_to. Returns the switch
-- offset of the next barrier above p_to.
create function refold.fence(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint, p_to bigint,
    p_last_record bytea, p_sums bytea, p_rows bigint, p_at_log_end boolean
) returns bigint language plpgsql as $$
declare
    v_above bigint;
begin
    -- One locking read-modify-write: under READ COMMITTED the predicate is
    -- evaluated again after the lock is got, so the loser of a race finds no row.
    update refold.offsets o
        set next_offset = p_to, last_record = coalesce(p_last_record, o.last_record),
            sums = p_sums, rows = p_rows,
            reached_log_end = o.reached_log_end or p_at_log_end,
            committed_at = clock_timestamp()
        where o.version = p_version and o.partition = p_partition
            and o.epoch = p_epoch and o.next_offset = p_from and p_to >= p_from;
    if not found then
        perform refold.fence_refuse(p_version, p_partition, p_epoch, p_from);
    end if;
    perform refold.fence_state(p_version);
    v_above := refold.fence_barrier(p_version, p_partition, p_from, p_to);
    insert into refold.barrier_acks (barrier, version, partition, sums, rows)
        select b.id, p_version, p_partition, p_sums, p_rows
        from refold.barriers b
        join refold.barrier_switch s on s.barrier = b.id and s.partition = p_partition
        where b.state = 'waiting' and s.x = p_to
            and (b.version_from = p_version or b.version_to = p_version)
        on conflict do nothing;
    return v_above;
end
$$;

-- The first statement of a bulk load, which knows its sums only at the end:
-- locks the offsets row until the transaction ends and checks all that the
-- fence checks. Nobody can change the row or set a barrier on it before
-- refold.fence_seal, the last statement of the same transaction.
create function refold.fence_begin(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint, p_to bigint
) returns void language plpgsql as $$
begin
    perform 1 from refold.offsets o
        where o.version = p_version and o.partition = p_partition
            and o.epoch = p_epoch and o.next_offset = p_from and p_to >= p_from
        for no key update;
    if not found then
        perform refold.fence_refuse(p_version, p_partition, p_epoch, p_from);
    end if;
    perform refold.fence_state(p_version);
    perform refold.fence_barrier(p_version, p_partition, p_from, p_to);
    perform 1 from refold.offsets o
        where o.version = p_version and o.partition = p_partition and o.has_leaf;
    if found then
        raise exception 'partition % of version % has its table already', p_partition, p_version
            using errcode = 'PF003';
    end if;
end
$$;

-- Moves the mark of a bulk load with its sums and says that the leaf exists.
create function refold.fence_seal(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint, p_to bigint,
    p_last_record bytea, p_sums bytea, p_rows bigint, p_at_log_end boolean
) returns bigint language plpgsql as $$
declare
    v_above bigint;
begin
    v_above := refold.fence(p_version, p_partition, p_epoch, p_from, p_to,
                            p_last_record, p_sums, p_rows, p_at_log_end);
    update refold.offsets o
        set has_leaf = true, leaf_xid = pg_current_xact_id()
        where o.version = p_version and o.partition = p_partition;
    return v_above;
end
$$;

-- Makes the calling session the owner of a partition: raises the epoch, which
-- fences every older owner off, and returns the durable truth. Waits for a
-- transaction that holds the row, so that a commit in flight is decided before
-- the mark is read. Creates the row at p_start while the version is building.
create function refold.take_over(
    p_version bigint, p_partition integer, p_code_hash text, p_start bigint, p_empty_sums bytea
) returns table (
    epoch bigint, next_offset bigint, last_record bytea, sums bytea,
    has_leaf boolean, reached_log_end boolean, switch bigint
) language plpgsql as $$
#variable_conflict use_column
declare
    v_version refold.versions;
begin
    perform refold.fence_state(p_version);
    select * into v_version from refold.versions v where v.id = p_version;
    if v_version.code_hash <> p_code_hash then
        raise exception 'version % was built by other code (stored %, running %): a changed fold or row struct needs a new version number',
            v_version.label, v_version.code_hash, p_code_hash using errcode = 'PF003';
    elsif p_partition < 0 or p_partition >= v_version.partitions then
        raise exception 'version % has partitions 0 to %, not %',
            v_version.label, v_version.partitions - 1, p_partition using errcode = 'PF003';
    end if;
    if v_version.state = 'building' then
        insert into refold.offsets (version, partition, epoch, next_offset, sums)
            values (p_version, p_partition, 0, p_start, p_empty_sums)
            on conflict do nothing;
    end if;
    update refold.offsets o
        set epoch = o.epoch + 1, owner_pid = pg_backend_pid(),
            owner_backend_start = (select a.backend_start from pg_stat_activity a
                                   where a.pid = pg_backend_pid())
        where o.version = p_version and o.partition = p_partition;
    if not found then
        raise exception 'version % is % and has no mark for partition %',
            v_version.label, v_version.state, p_partition using errcode = 'PF003';
    end if;
    -- A statement of its own: its snapshot is younger than the lock, so that it
    -- sees a barrier that was set while the update waited.
    return query select o.epoch, o.next_offset, o.last_record, o.sums, o.has_leaf, o.reached_log_end,
        refold.fence_barrier(p_version, p_partition, o.next_offset, o.next_offset)
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
end
$$;

-- Ends the recorded owner's session where it still is that session. A stopped
-- owner inside its transaction is freed by nothing else in time.
create function refold.end_owner(p_version bigint, p_partition integer) returns boolean
language sql as $$
    select coalesce(bool_or(pg_terminate_backend(a.pid)), false)
    from refold.offsets o
    join pg_stat_activity a on a.pid = o.owner_pid and a.backend_start = o.owner_backend_start
    where o.version = p_version and o.partition = p_partition and a.pid <> pg_backend_pid()
$$;
