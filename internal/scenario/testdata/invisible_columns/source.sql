INSERT INTO t (id, a) VALUES (1, 'x'), (2, 'y');
INSERT INTO t (id, a, h) VALUES (3, 'z', 33);
UPDATE t SET h = h + 1;
DELETE FROM t WHERE h = 34;
INSERT INTO t VALUES (9, 'nine');
