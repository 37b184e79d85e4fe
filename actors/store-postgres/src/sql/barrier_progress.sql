select b.state, side.version, s.partition, s.x, a.barrier is not null as acked, o.next_offset
from refold.barriers b
join refold.barrier_switch s on s.barrier = b.id
cross join lateral (values (b.version_from), (b.version_to)) side (version)
left join refold.barrier_acks a
    on a.barrier = b.id and a.version = side.version and a.partition = s.partition
left join refold.offsets o on o.version = side.version and o.partition = s.partition
where b.id = $1
order by side.version, s.partition
