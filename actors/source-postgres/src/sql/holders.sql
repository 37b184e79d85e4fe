-- Who writes: a transaction, and the first position that it announced (its low 32 bits), null
-- for one that holds the table and announced none. Asked after the last position was read.
select coalesce(writer.virtualtransaction, announced.virtualtransaction) as transaction,
    announced.first
from (
    select distinct virtualtransaction from pg_locks
    where locktype = 'relation' and relation = $1 and mode = 'RowExclusiveLock' and granted
        and database = (select oid from pg_database where datname = current_database())
) writer
full join (
    select virtualtransaction, objid::bigint as first from pg_locks
    where locktype = 'advisory' and classid = $1 and objsubid = 2 and granted
        and database = (select oid from pg_database where datname = current_database())
) announced using (virtualtransaction)
