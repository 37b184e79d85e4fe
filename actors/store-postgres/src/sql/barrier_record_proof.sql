with proof as (
    insert into refold.barrier_proofs (barrier, columns, differences) values ($1, $2, $3)
)
update refold.barriers set state = 'complete', changed_at = clock_timestamp()
where id = $1 and state = 'waiting'
