SET sql_mode = '';
INSERT INTO t VALUES (1, 'no such'), (2, 'a'), (3, ''), (4, '');
UPDATE t SET e = 'nor this' WHERE id = 2;
UPDATE t SET e = 'b' WHERE id = 4;
INSERT INTO k VALUES ('?', 1), ('a', 2);
UPDATE k SET v = 9 WHERE v = 1;
INSERT INTO none VALUES ('?'), ('?'), ('a'), (NULL);
DELETE FROM none WHERE e = 0 LIMIT 1;
