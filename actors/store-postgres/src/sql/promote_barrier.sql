select b.version_from, b.version_to, b.state,
    (select jsonb_object_agg(s.partition, s.x) from refold.barrier_switch s where s.barrier = b.id) as switch,
    (select p.differences from refold.barrier_proofs p where p.barrier = b.id order by p.id desc limit 1)
        as differences
from refold.barriers b
where b.id = $1
