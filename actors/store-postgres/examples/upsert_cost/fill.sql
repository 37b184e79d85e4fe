insert into account
select key, key * 1000, 'open', 0, 0, 0, to_timestamp(1700000000), null, 'EUR', 0, 0, false
from generate_series(0, $1::bigint - 1) as key
