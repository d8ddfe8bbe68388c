// The same three routes on Go's net/http.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func hello(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Hello, world!")
}

func many(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/bytes/"))
	if err != nil || count < 0 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(count))
	w.Write(bytes.Repeat([]byte("x"), count))
}

func upload(w http.ResponseWriter, r *http.Request) {
	count, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	io.WriteString(w, strconv.FormatInt(count, 10))
}

func main() {
	http.HandleFunc("/", hello)
	http.HandleFunc("/bytes/", many)
	http.HandleFunc("/upload", upload)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
