-- Holds both marks of one partition: a batch in its transaction is waited for.
select count(*) from (
    select 1 from refold.offsets o
    where (o.version = $1 or o.version = $2) and o.partition = $3
    order by o.version
    for share
) held
