-- Asked many times a second while a barrier waits: nothing that takes the marks is in here.
select b.state,
    (select count(*) from refold.barrier_acks a where a.barrier = b.id)
        = 2 * (select count(*) from refold.barrier_switch s where s.barrier = b.id) as complete
from refold.barriers b
where b.id = $1
