package config

import "strings"

// What people write who come from nginx. Most of its directives for requests have a key here,
// by another name. What havip leaves to nginx is refused with the way out.

// nginxKeys are the keys that do what directives do.
var nginxKeys = map[string]string{
	"upstream": "backends", "proxy_pass": "backends, of a route too", "grpc_pass": "backends, and http.backend_protocol: http2", "server_name": "hosts of a route", "location": "paths of a route",
	"ip_hash": "balance: source-hash", "hash": "balance: key-hash, and http.hash_key", "least_conn": "balance: least-conn", "keepalive": "nothing: connections to backends are kept",
	"return": "http.redirect or http.answer", "allow": "http.access", "deny": "http.access",
	"auth_basic": "http.auth", "auth_basic_user_file": "http.auth", "error_page": "http.error_pages", "proxy_intercept_errors": "http.intercept_errors",
	"proxy_set_header": "http.request_headers", "add_header": "http.add_response_headers", "proxy_hide_header": "http.response_headers, with an empty value",
	"set_real_ip_from": "http.trusted_proxies", "real_ip_header": "http.trusted_proxies",
	"client_max_body_size": "http.max_body", "client_header_timeout": "http.header_timeout", "client_body_timeout": "http.client_timeout", "send_timeout": "http.client_timeout",
	"proxy_connect_timeout": "connect_timeout", "proxy_read_timeout": "http.response_timeout", "proxy_send_timeout": "http.response_timeout", "keepalive_timeout": "idle_timeout",
	"proxy_next_upstream": "http.retry_statuses, http.retry_non_idempotent and tries", "proxy_next_upstream_tries": "tries", "proxy_request_buffering": "http.buffering", "client_body_temp_path": "http.buffer_folder",
	"limit_req": "http.request_rate", "limit_conn": "http.requests_per_client", "keepalive_requests": "http.requests_per_connection",
	"proxy_buffering": "nothing: responses are streamed", "gzip": "http.compress", "gzip_types": "http.compress.types", "gzip_min_length": "http.compress.min_length",
	"ssl_certificate": "tls.certificates", "ssl_certificate_key": "tls.certificates", "ssl_protocols": "tls.min_version", "ssl_client_certificate": "tls.client_ca", "ssl_verify_client": "tls.client_auth",
	"ssl_session_ticket_key": "tls.session_ticket_keys", "ssl_stapling_file": "tls.certificates, ocsp_staple", "proxy_ssl_verify": "backend_tls", "max_fails": "pool.max_fails", "fail_timeout": "pool.fail_timeout",
}

// nginxJobs are what stays nginx's job, by what directives begin with. The longest counts.
var nginxJobs = map[string]string{
	"root": "files are", "alias": "files are", "index": "files are", "autoindex": "files are", "try_files": "files are", "static": "files are", "dav_": "files are", "expires": "what caches may do with files is", "open_file_cache": "files are",
	"proxy_cache": "a cache is", "proxy_store": "a cache is", "slice": "a cache is", "memcached_pass": "a cache is",
	"auth_request": "to ask another server about each request is", "auth_jwt": "to look into tokens is", "secure_link": "signed links are",
	"fastcgi_": "the protocol of PHP and the like is", "uwsgi_": "uwsgi is", "scgi_": "scgi is", "php": "the protocol of PHP and the like is",
	"lua": "scripting is", "content_by_lua": "scripting is", "access_by_lua": "scripting is", "rewrite_by_lua": "scripting is", "js_": "scripting is", "perl": "scripting is", "ssi": "scripting is", "if": "scripting is", "set": "scripting is", "map": "scripting is",
	"sub_filter": "to change the content of responses is", "addition_": "to change the content of responses is", "image_filter": "to change the content of responses is", "xslt_": "to change the content of responses is", "mirror": "to send requests twice is",
}

// nginxHint says what a directive of nginx is here; empty: name is none, or path is no place for it.
func nginxHint(name, path string) string {
	if !strings.HasPrefix(path, "services[") {
		return ""
	}
	if key := nginxKeys[name]; key != "" {
		return "unknown key: what nginx calls so is here: " + key
	}
	longest := ""
	for begin := range nginxJobs {
		whole := name == begin || strings.HasPrefix(name, begin) && (strings.HasSuffix(begin, "_") || strings.HasPrefix(name[len(begin):], "_"))
		if whole && len(begin) > len(longest) {
			longest = begin
		}
	}
	if longest == "" {
		return ""
	}
	return "not havip's job: " + nginxJobs[longest] + " left to nginx: keep one that does it, and name it under backends"
}
