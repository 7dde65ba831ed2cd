INSERT INTO t VALUES (1, 'a,c', 'm1,m64'), (2, '', ''), (3, NULL, NULL), (4, 'a,b,c,d', 18446744073709551615), (5, 'd', 'm64');
UPDATE t SET s = s & 5, l = l & ~1 WHERE id IN (1, 4);
INSERT INTO k VALUES ('x', 1), ('x,y', 2), ('', 3);
UPDATE k SET k = 'y' WHERE k = 'x,y';
DELETE FROM k WHERE k = '';
INSERT INTO none VALUES ('x,y'), ('x,y'), ('');
DELETE FROM none WHERE s = 'x,y' LIMIT 1;
