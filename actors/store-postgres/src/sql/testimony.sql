insert into refold.testimonies (scan, version, confirmed, contradicted, named)
values ($1, $2, $3, $4, $5)
