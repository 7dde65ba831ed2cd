INSERT INTO n VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
BEGIN;
INSERT INTO t SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n, REPEAT('v', 500) FROM n a, n b, n c, n d WHERE d.n < 5;
UPDATE t SET v = CONCAT(v, id) WHERE id % 3 = 0;
DELETE FROM t WHERE id % 7 = 0;
UPDATE t SET id = id + 100000 WHERE id % 5 = 0;
COMMIT;
