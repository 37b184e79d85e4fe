-- Holds every mark of both versions still: a batch that is in its transaction is
-- waited for, the next one waits at its fence and then sees the barrier.
select count(*) from (
    select 1 from refold.offsets o
    where o.version = $1 or o.version = $2
    order by o.version, o.partition
    for share
) held
