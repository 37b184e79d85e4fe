select coalesce(jsonb_object_agg(o.partition, o.next_offset), '{}'::jsonb) as switch
from refold.offsets o where o.version = $1
