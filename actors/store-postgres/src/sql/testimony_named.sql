-- The rows of a version that the log contradicted.
select (n ->> 'partition')::integer as partition, decode(n ->> 'cell', 'hex') as cell
from refold.testimonies t, jsonb_array_elements(t.named) n
where t.scan = $1 and t.version = $2
