INSERT INTO p VALUES (1, 'a', 1), (1, 'b', 2), (2, 'a', 3);
INSERT INTO c VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, NULL), (4, NULL, 'a'), (5, 2, 'a');
UPDATE p SET k2 = 'A2' WHERE v = 1;
DELETE FROM p WHERE v = 2;
UPDATE p SET k1 = 7, k2 = 'x' WHERE v = 3;
UPDATE c SET k1 = NULL WHERE id = 1;
DELETE FROM p;
