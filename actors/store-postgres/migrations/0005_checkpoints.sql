-- Checkpoints of long bulk loads: the rows of a history that is still being
-- folded, in a table of their own beside the leaf that does not exist yet. The
-- mark stands where they end. The load that creates the leaf drops the table.

-- Where the history of a partition began when it was first taken over: the
-- events [start_offset, next_offset) are in the rows.
alter table refold.offsets add column start_offset bigint not null default 0;
alter table refold.offsets add column has_checkpoint boolean not null default false;

-- Moves the mark of a checkpoint with its sums and says that its table exists.
-- The last statement of a transaction that refold.fence_begin began.
create function refold.fence_checkpoint(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint, p_to bigint,
    p_last_record bytea, p_sums bytea, p_rows bigint, p_at_log_end boolean
) returns bigint language plpgsql as $$
declare
    v_above bigint;
begin
    v_above := refold.fence(p_version, p_partition, p_epoch, p_from, p_to,
                            p_last_record, p_sums, p_rows, p_at_log_end);
    update refold.offsets o set has_checkpoint = true
        where o.version = p_version and o.partition = p_partition;
    return v_above;
end
$$;

-- As before, and there is no checkpoint any more.
create or replace function refold.fence_seal(
    p_version bigint, p_partition integer, p_epoch bigint, p_from bigint, p_to bigint,
    p_last_record bytea, p_sums bytea, p_rows bigint, p_at_log_end boolean
) returns bigint language plpgsql as $$
declare
    v_above bigint;
begin
    v_above := refold.fence(p_version, p_partition, p_epoch, p_from, p_to,
                            p_last_record, p_sums, p_rows, p_at_log_end);
    update refold.offsets o
        set has_leaf = true, has_checkpoint = false, leaf_xid = pg_current_xact_id()
        where o.version = p_version and o.partition = p_partition;
    return v_above;
end
$$;

-- As before; the answer says where the history began and whether a checkpoint holds it.
drop function refold.take_over(bigint, integer, text, bigint, bytea);

create function refold.take_over(
    p_version bigint, p_partition integer, p_code_hash text, p_start bigint, p_empty_sums bytea
) returns table (
    epoch bigint, next_offset bigint, last_record bytea, sums bytea,
    has_leaf boolean, reached_log_end boolean, switch bigint,
    start_offset bigint, has_checkpoint boolean
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
        insert into refold.offsets (version, partition, epoch, next_offset, start_offset, sums)
            values (p_version, p_partition, 0, p_start, p_start, p_empty_sums)
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
        refold.fence_barrier(p_version, p_partition, o.next_offset, o.next_offset),
        o.start_offset, o.has_checkpoint
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
end
$$;
