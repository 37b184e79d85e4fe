-- The rows of a version that the log contradicted.
select (n ->> 'partition')::integer as partition, decode(n ->> 'cell', 'hex') as cell
from refold.latest_testimony($1, $2) t, jsonb_array_elements(t.named) n
