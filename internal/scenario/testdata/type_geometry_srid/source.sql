INSERT INTO t VALUES (1, ST_GeomFromText('POINT(48.2 16.4)', 4326), ST_GeomFromText('POINT(1 2)', 3857)), (2, ST_GeomFromText('LINESTRING(10 20, 30 40)', 4326), ST_GeomFromText('POINT(1 2)', 0));
UPDATE t SET g = ST_GeomFromText('POINT(-90 180)', 4326) WHERE id = 2;
INSERT INTO s VALUES (ST_GeomFromText('POINT(1 2)', 4326)), (ST_GeomFromText('POINT(3 4)', 4326));
DELETE FROM s WHERE ST_Latitude(g) = 1;
