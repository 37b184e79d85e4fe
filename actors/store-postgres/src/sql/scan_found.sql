select p.found from refold.scan_partitions p where p.scan = $1 order by p.partition
