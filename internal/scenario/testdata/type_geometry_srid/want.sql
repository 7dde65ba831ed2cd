SELECT id, ST_AsText(g), ST_SRID(g), ST_SRID(h) FROM t ORDER BY id;
SELECT ST_AsText(g) FROM s;
