package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// A serverInfo is what is known of a server once its part of the file is
// checked.
type serverInfo struct {
	dsn     string
	address string
	user    string
}

// SourceDSN returns the source in the form of go-sql-driver/mysql. It holds the
// password: do not print it.
func (c *Config) SourceDSN() string { return c.Source.info.dsn }

// TargetDSN is SourceDSN for the target.
func (c *Config) TargetDSN() string { return c.Target.info.dsn }

// String returns the address and the user, and nothing that is secret.
func (s *Server) String() string {
	return fmt.Sprintf("%s as user %s", s.info.address, cmp.Or(s.info.user, "(none)"))
}

// Address returns "host:port", or the path of the socket.
func (s *Server) Address() string { return s.info.address }

// String returns what Server.String does, or the files, or the archive.
func (s *Source) String() string {
	if s.Archive.On() {
		return "archive " + s.Archive.Address()
	}
	if len(s.Files) > 0 {
		return "files of " + s.Address()
	}
	return s.Server.String()
}

// Address returns what Server.Address does, or the paths of the files.
func (s *Source) Address() string {
	if len(s.Files) > 0 {
		return strings.Join(s.Files, ", ")
	}
	return s.Server.Address()
}

// check finds what is wrong with the source, which is a server or files.
func (s *Source) check(d *decoder, dir string) {
	if d.lines["source.files"] == 0 {
		if s.Follow {
			d.fault(d.lines["source.follow"], "source.follow is for files; leave it out for a server")
		}
		s.Server.check(d, "source", dir)
		return
	}
	s.info = new(serverInfo)
	for _, key := range []string{"dsn", "host", "port", "socket", "user", "password", "tls"} {
		if line := d.lines["source."+key]; line > 0 {
			d.fault(line, "source has both files and %s; use one of them", key)
		}
	}
	if len(s.Files) == 0 && !d.faulty(d.lines["source.files"]) {
		d.fault(d.lines["source.files"], "source.files is empty; name files, a folder of them, or their .index file")
	}
	for i := range s.Files {
		s.Files[i] = resolve(dir, s.Files[i])
	}
}

// Account returns the name of the account.
func (s *Server) Account() string { return s.info.user }

// check finds what is wrong with the server at path, and what to call it by.
func (s *Server) check(d *decoder, path string, dir string) {
	line := d.lines[path]
	separate := ""
	for _, key := range []string{"host", "port", "socket", "user", "password", "tls"} {
		if d.lines[path+"."+key] > 0 {
			separate = cmp.Or(separate, key)
		}
	}
	switch {
	case s.DSN != "" && separate != "":
		d.fault(d.lines[path+"."+separate], "%s has both dsn and %s; use one of them: the dsn can hold everything", path, separate)
		return
	case s.DSN != "":
		s.checkDSN(d, path)
		return
	case d.lines[path+".dsn"] > 0 && separate == "":
		if !d.faulty(d.lines[path+".dsn"]) {
			d.fault(d.lines[path+".dsn"], "%s.dsn is empty; want user:password@tcp(host:port)/", path)
		}
		return
	case separate == "":
		d.fault(line, "%s needs a dsn, or host, user and password", path)
		return
	}

	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(cmp.Or(s.Host, "127.0.0.1"), strconv.Itoa(int(cmp.Or(s.Port, 3306))))
	if s.Socket != "" {
		cfg.Net, cfg.Addr = "unix", s.Socket
		if s.Host != "" || s.Port != 0 {
			d.fault(d.lines[path+".socket"], "%s has both socket and host or port; use one of them", path)
		}
	}
	if strings.ContainsAny(s.Host, "()@/ ") {
		d.fault(d.lines[path+".host"], "%s.host holds %q; want a name or an address, with the port under port", path, d.texts[path+".host"])
	}
	cfg.User, cfg.Passwd = s.User, string(s.Password)
	switch userLine := d.lines[path+".user"]; {
	case s.User == "" && !d.faulty(userLine):
		d.fault(max(userLine, line), "%s.user is missing; name the account to log in with", path)
	case strings.Contains(s.User, ":"):
		d.fault(userLine, "%s.user holds a colon; the password goes under password", path)
	}
	cfg.TLSConfig = s.TLS.register(d, path+".tls", dir, s.Host)
	s.info = &serverInfo{cfg.FormatDSN(), cfg.Addr, cfg.User}
}

// checkDSN parses the DSN. What the parser says of a mistake may quote the part
// that it took for something else than the password, and so is not passed on.
func (s *Server) checkDSN(d *decoder, path string) {
	cfg, err := mysql.ParseDSN(string(s.DSN))
	if err != nil {
		cure := ""
		if !strings.Contains(string(s.DSN), "/") {
			cure = "; the slash is missing"
		}
		d.fault(d.lines[path+".dsn"], "%s.dsn is not of the form user:password@tcp(host:port)/%s", path, cure)
		return
	}
	s.info = &serverInfo{string(s.DSN), cfg.Addr, cfg.User}
}

// register makes the settings known to the driver, and returns the name by
// which a DSN asks for them.
func (t *TLS) register(d *decoder, path, dir, host string) string {
	line := d.lines[path]
	switch {
	case t.Mode == "" && (t.CA != "" || t.Cert != "" || t.Key != "" || t.ServerName != ""):
		cfg, err := t.config(dir, host)
		if err != nil {
			d.fault(line, "%s: %v", path, err)
			return ""
		}
		name := fmt.Sprintf("dfs %s:%d", path, line) // of several targets each has its own
		if err := mysql.RegisterTLSConfig(name, cfg); err != nil {
			d.fault(line, "%s: %v", path, err)
		}
		return name
	case t.Mode == "", t.Mode == "false":
		return ""
	case t.Mode == "true", t.Mode == "preferred", t.Mode == "skip-verify":
		return t.Mode
	}
	d.fault(line, "%s is %q; want true, false, preferred or skip-verify, or keys ca, cert, key, server_name", path, d.texts[path])
	return ""
}

func (t *TLS) config(dir, host string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: cmp.Or(t.ServerName, host, "127.0.0.1"), MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(resolve(dir, t.CA))
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca %s holds no certificate in PEM form", t.CA)
		}
	}
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return nil, errors.New("cert and key belong together; one of them is missing")
	case t.Cert != "":
		cert, err := tls.LoadX509KeyPair(resolve(dir, t.Cert), resolve(dir, t.Key))
		if err != nil {
			return nil, fmt.Errorf("read cert and key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// resolve makes a path in the file relative to the folder that the file is in.
func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
