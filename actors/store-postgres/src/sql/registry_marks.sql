select o.partition, o.epoch, o.next_offset, o.has_leaf, o.reached_log_end, o.rows, o.committed_at
from refold.offsets o
where o.version = $1
order by o.partition
