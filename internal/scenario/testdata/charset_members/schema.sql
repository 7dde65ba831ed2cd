SET NAMES utf8;
CREATE TABLE t (id INT PRIMARY KEY, a ENUM('ä', 'ß') CHARACTER SET latin1, b ENUM('日', '本') CHARACTER SET utf8, c ENUM('я', 'ж') CHARACTER SET koi8r, s SET('é', 'ü') CHARACTER SET cp850);
