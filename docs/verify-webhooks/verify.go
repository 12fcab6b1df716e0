// Verifies a delivery of checkoutd with Go's standard library.
//
//	WEBHOOK_SECRETS="whsec_… [whsec_…]" go run verify.go ID TIMESTAMP SIGNATURE [NOW] <BODY
//
// ID, TIMESTAMP and SIGNATURE are the values of the three webhook-* headers, BODY is the raw body. NOW, in Unix
// seconds, is for tests. Prints `verified` and exits with 0, or prints why not and exits with 1.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute

var unixSeconds = regexp.MustCompile(`\A[0-9]{1,12}\z`)

// verify returns an error, which says why, unless one of the secrets signed this body, and recently.
func verify(secrets []string, headers http.Header, body []byte, now time.Time) error {
	keys, err := signingKeys(secrets)
	if err != nil {
		return err
	}
	id, timestamp, signatures := headers.Get("webhook-id"), headers.Get("webhook-timestamp"), headers.Get("webhook-signature")
	if id == "" || timestamp == "" || signatures == "" {
		return errors.New("missing_header")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || !unixSeconds.MatchString(timestamp) {
		return errors.New("malformed_timestamp")
	}
	age := now.Sub(time.Unix(seconds, 0))
	if age > tolerance {
		return errors.New("timestamp_too_old")
	}
	if age < -tolerance {
		return errors.New("timestamp_too_new")
	}
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for _, given := range strings.Split(signatures, " ") {
			if hmac.Equal([]byte(given), expected) {
				return nil
			}
		}
	}
	return errors.New("no_matching_signature")
}

func signingKeys(secrets []string) ([][]byte, error) {
	var keys [][]byte
	for _, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) == 0 { // with an empty key anyone could sign
			return nil, errors.New("malformed_secret")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("malformed_secret")
	}
	return keys, nil
}

func main() {
	if len(os.Args) != 4 && len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "verify ID TIMESTAMP SIGNATURE [NOW] <BODY")
		os.Exit(2)
	}
	headers := http.Header{}
	for index, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		headers.Set(name, os.Args[index+1])
	}
	now := time.Now()
	if len(os.Args) == 5 {
		seconds, err := strconv.ParseInt(os.Args[4], 10, 64)
		exitOn(err)
		now = time.Unix(seconds, 0)
	}
	body, err := io.ReadAll(os.Stdin)
	exitOn(err)
	if err := verify(strings.Fields(os.Getenv("WEBHOOK_SECRETS")), headers, body, now); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("verified")
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
