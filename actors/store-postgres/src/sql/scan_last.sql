-- The last scan of two versions that read everything by the code that they have now, and of the
-- rows that they were built of last.
select s.id, s.expected
from refold.verifications s
join refold.versions f on f.id = s.version_from and f.code_hash = s.code_from
join refold.versions t on t.id = s.version_to and t.code_hash = s.code_to
where s.finished_at is not null and s.id = coalesce($3, s.id)
    and s.started_at > coalesce(greatest(f.reset_at, t.reset_at), '-infinity')
    and ((s.version_from = $1 and s.version_to = $2) or (s.version_from = $2 and s.version_to = $1))
order by s.started_at desc
limit 1
