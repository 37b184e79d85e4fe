with proof as (
    insert into refold.barrier_proofs (barrier, columns, differences) values ($1, $2, $3)
), moved as (
    update refold.barriers set state = 'complete', changed_at = clock_timestamp()
    where id = $1 and state = 'waiting'
)
select b.version_from, b.version_to from refold.barriers b where b.id = $1
