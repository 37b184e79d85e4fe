select b.state, f.label as from_label, t.label as to_label, s.partition,
    ack_from.sums as from_sums, ack_from.rows as from_rows, ack_to.sums as to_sums, ack_to.rows as to_rows
from refold.barriers b
join refold.versions f on f.id = b.version_from
join refold.versions t on t.id = b.version_to
join refold.barrier_switch s on s.barrier = b.id
left join refold.barrier_acks ack_from
    on ack_from.barrier = b.id and ack_from.version = b.version_from and ack_from.partition = s.partition
left join refold.barrier_acks ack_to
    on ack_to.barrier = b.id and ack_to.version = b.version_to and ack_to.partition = s.partition
where b.id = $1
order by s.partition
