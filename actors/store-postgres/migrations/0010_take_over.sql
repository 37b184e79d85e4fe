-- A take-over that leaves the partition to whoever came behind its asker. Looked at from outside,
-- a successor may come between the look and the take-over.

drop function refold.take_over(bigint, integer, text, bigint, bytea);

-- p_own_up_to is the highest epoch that can be the asker's own; null takes the partition from
-- whoever has it.
create function refold.take_over(
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
    -- Before the lock: a successor in the middle of a load holds it for long, and is not waited for.
    perform refold.take_over_check(p_partition, o.epoch, p_own_up_to, v_version.label)
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
    update refold.offsets o
        set epoch = o.epoch + 1, owner_pid = pg_backend_pid(),
            owner_backend_start = (select a.backend_start from pg_stat_activity a
                                   where a.pid = pg_backend_pid())
        where o.version = p_version and o.partition = p_partition
        returning o.epoch - 1 into v_found;
    if not found then
        raise exception 'version % is % and has no mark for partition %',
            v_version.label, v_version.state, p_partition using errcode = 'PF003';
    end if;
    -- Under the lock: a successor may have come while it was waited for. The error takes the
    -- new epoch back.
    perform refold.take_over_check(p_partition, v_found, p_own_up_to, v_version.label);
    -- A statement of its own: its snapshot is younger than the lock, so that it
    -- sees a barrier that was set while the update waited.
    return query select o.epoch, o.next_offset, o.last_record, o.sums, o.has_leaf, o.reached_log_end,
        refold.fence_barrier(p_version, p_partition, o.next_offset, o.next_offset),
        o.start_offset, o.has_checkpoint
        from refold.offsets o where o.version = p_version and o.partition = p_partition;
end
$$;

create function refold.take_over_check(
    p_partition integer, p_found bigint, p_own_up_to bigint, p_label text
) returns void language plpgsql as $$
begin
    if p_found > p_own_up_to then
        raise exception 'p% of % was taken over by another process (epoch %)',
            p_partition, p_label, p_found using errcode = 'PF001';
    end if;
end
$$;

drop function refold.end_owner(bigint, integer);

create function refold.end_owner(
    p_version bigint, p_partition integer, p_own_up_to bigint default null
) returns boolean language sql as $$
    select coalesce(bool_or(pg_terminate_backend(a.pid)), false)
    from refold.offsets o
    join pg_stat_activity a on a.pid = o.owner_pid and a.backend_start = o.owner_backend_start
    where o.version = p_version and o.partition = p_partition and a.pid <> pg_backend_pid()
        and (p_own_up_to is null or o.epoch <= p_own_up_to)
$$;
