INSERT INTO t VALUES (1, ST_GeomFromText('POINT(1 2)'), ST_GeomFromText('POINT(-1.5 2.5)')), (2, ST_GeomFromText('LINESTRING(0 0, 1 1, 2 2)'), NULL),
  (3, ST_GeomFromText('POLYGON((0 0, 10 0, 10 10, 0 10, 0 0), (2 2, 3 2, 3 3, 2 3, 2 2))'), NULL), (4, NULL, NULL),
  (5, ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))'), NULL), (6, ST_GeomFromText('MULTIPOINT(1 1, 2 2)'), NULL),
  (7, ST_GeomFromText('MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)), ((5 5, 6 5, 6 6, 5 5)))'), NULL), (8, ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3))'), NULL);
UPDATE t SET p = ST_GeomFromText('POINT(1e300 -1e-300)') WHERE id = 1;
UPDATE t SET g = p WHERE id = 8;
DELETE FROM t WHERE id = 2;
INSERT INTO none VALUES (ST_GeomFromText('POINT(1 2)')), (ST_GeomFromText('POINT(1 2)'));
DELETE FROM none LIMIT 1;
