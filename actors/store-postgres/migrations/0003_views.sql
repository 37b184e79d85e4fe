-- Read-only views under the names that people look for. Nothing on the read
-- path uses them. Both join, so that neither can be written through.

create view public.projection_offsets as
    select v.label as version, o.partition, o.next_offset - 1 as applied_offset
    from refold.offsets o join refold.versions v on v.id = o.version;

create view public.projections as
    select v.label as version, v.state, a.generation
    from refold.versions v
    left join refold.active a on a.name = v.name and a.version = v.id;
