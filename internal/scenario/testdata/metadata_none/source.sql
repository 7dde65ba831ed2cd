INSERT INTO t VALUES (1, 200, 'ä', 'b', 'x', '2024-01-01', 1.5), (2, 0, NULL, NULL, NULL, NULL, NULL);
UPDATE t SET u = 255, e = 'c' WHERE id = 2;
DELETE FROM t WHERE id = 1;
