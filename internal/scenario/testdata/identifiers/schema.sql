SET NAMES utf8;
CREATE TABLE `select` (`from` INT PRIMARY KEY, `a b` INT, `q``uote` INT, `'single'` INT, `"double"` INT);
CREATE TABLE `we``ird "table".name` (`key` VARCHAR(9) PRIMARY KEY, `%s` INT);
CREATE TABLE `Ünïcödé 日本` (`番号` INT PRIMARY KEY, `größe` VARCHAR(9));
CREATE TABLE `aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234` (id INT PRIMARY KEY, `AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDDDDDDDDDDEEEEEEEEEEFFFFFFFFFF1234` INT);
CREATE TABLE `1e5` (`0` INT PRIMARY KEY, `1` INT);
