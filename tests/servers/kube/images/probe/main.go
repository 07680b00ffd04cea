// Command probe is the program of the tests' Pods. It answers over HTTP:
//
//	/healthz    200
//	/whoami     its host name, user id, and what becomes of a file written to its root
//	/get?url=   what it gets there itself: the answer's status and body
//	/api?path=  what the API server answers the Pod's own ServiceAccount
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func whoami(w http.ResponseWriter, _ *http.Request) {
	host, _ := os.Hostname()
	written := "written"
	if err := os.WriteFile("/written", nil, 0o600); err != nil {
		written = err.Error()
	}
	answer := map[string]any{"host": host, "uid": os.Getuid(), "root": written}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		log.Print(err)
	}
}

func get(w http.ResponseWriter, r *http.Request) {
	ask(w, &http.Client{Timeout: 5 * time.Second}, r.URL.Query().Get("url"), "")
}

func api(w http.ResponseWriter, r *http.Request) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	roots := x509.NewCertPool()
	pem, _ := os.ReadFile(account + "ca.crt")
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	ask(w, client, "https://kubernetes.default.svc"+r.URL.Query().Get("path"), "Bearer "+string(token))
}

func ask(w http.ResponseWriter, client *http.Client, url, authorization string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	answer, err := client.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		log.Print(err)
	}
}

func main() {
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/whoami", whoami)
	http.HandleFunc("/get", get)
	http.HandleFunc("/api", api)
	go func() { log.Fatal(http.ListenAndServe(":8080", nil)) }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
}
