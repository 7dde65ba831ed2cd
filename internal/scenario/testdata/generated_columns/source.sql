INSERT INTO t (id, a, b) VALUES (1, 2, 'x'), (2, NULL, NULL), (3, 5, 'zz');
UPDATE t SET a = 7 WHERE id = 1;
UPDATE t SET b = CONCAT(b, '!');
DELETE FROM t WHERE id = 3;
INSERT INTO mid (a, c) VALUES (1, 2), (3, 4);
UPDATE mid SET c = c * 10 WHERE a = 1;
DELETE FROM mid WHERE a = 3;
