INSERT INTO t VALUES (1), (2);
DELETE FROM t WHERE id = 1;
INSERT INTO `tick``s "and" more`.t VALUES (5);
