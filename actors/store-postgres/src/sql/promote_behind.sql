-- The durable re-check: acks were hints. Nothing lowers a mark without the
-- versions rows' locks, which the caller holds, so what is passed stays passed.
select s.partition, s.x - coalesce(o.next_offset, 0) as events
from refold.barrier_switch s
left join refold.offsets o on o.version = $2 and o.partition = s.partition
where s.barrier = $1 and (o.next_offset is null or o.next_offset < s.x)
order by s.partition
