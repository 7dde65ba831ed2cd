INSERT INTO t VALUES (1, 5, 'a'), (2, 9, 'b');
UPDATE t SET a = a + 1 WHERE id = 1;
DELETE FROM t WHERE id = 2;
INSERT INTO t SELECT id + 20, a, b FROM t;
