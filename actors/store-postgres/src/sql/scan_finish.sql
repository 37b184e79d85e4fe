update refold.verifications s
set finished_at = clock_timestamp(), verified_at = clock_timestamp()
where s.id = $1 and s.finished_at is null
returning 1
