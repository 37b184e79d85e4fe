-- What the log said of a version's rows; said again, it takes the place of what it said before.
insert into refold.testimonies (scan, version, confirmed, contradicted, named)
values ($1, $2, $3, $4, $5)
on conflict (scan, version) do update
set confirmed = excluded.confirmed, contradicted = excluded.contradicted, named = excluded.named,
    testified_at = clock_timestamp()
