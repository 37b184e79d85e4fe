update refold.barriers set state = $2, changed_at = clock_timestamp()
where id = $1 and state = 'waiting'
