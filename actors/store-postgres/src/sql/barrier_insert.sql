with replaced as (
    -- There is one at a time for the versions of a name.
    update refold.barriers b set state = 'dropped', changed_at = clock_timestamp()
        from refold.versions v
        where b.state = 'waiting' and (b.version_from = v.id or b.version_to = v.id)
            and v.name = (select f.name from refold.versions f where f.id = $1)
), barrier as (
    insert into refold.barriers (version_from, version_to, state)
        values ($1, $2, 'waiting')
        returning id
), switch as (
    insert into refold.barrier_switch (barrier, partition, x)
        select b.id, s.partition, s.x
        from barrier b cross join unnest($3::integer[], $4::bigint[]) s (partition, x)
        returning barrier, partition, x
), acks as (
    -- Whoever stands at the switch offset already has nothing left to do.
    insert into refold.barrier_acks (barrier, version, partition, sums, rows)
        select s.barrier, o.version, o.partition, o.sums, o.rows
        from switch s
        join refold.offsets o on o.partition = s.partition and o.next_offset = s.x
        where o.version = $1 or o.version = $2
)
select id from barrier
