<?php
// Verifies a delivery of checkoutd with PHP alone (8.0 or newer).
//
//   WEBHOOK_SECRETS="whsec_… [whsec_…]" php verify.php ID TIMESTAMP SIGNATURE [NOW] <BODY
//
// ID, TIMESTAMP and SIGNATURE are the values of the three webhook-* headers, BODY is the raw body. NOW, in Unix
// seconds, is for tests. Prints `verified` and exits with 0, or prints why not and exits with 1.

declare(strict_types=1);

const TOLERANCE_SECONDS = 5 * 60;

/** Not to be trusted; the message says why. */
class Refused extends Exception
{
}

/** Throws Refused unless one of the secrets signed this body, and recently. */
function verify(array $secrets, array $headers, string $body, ?int $now = null): void
{
    $keys = array_map('signing_key', $secrets);
    if ($keys === []) {
        throw new Refused('malformed_secret');
    }
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    $signatures = $headers['webhook-signature'] ?? '';
    if ($id === '' || $timestamp === '' || $signatures === '') {
        throw new Refused('missing_header');
    }
    if (preg_match('/\A[0-9]{1,12}\z/', $timestamp) !== 1) {
        throw new Refused('malformed_timestamp');
    }
    $age = ($now ?? time()) - (int) $timestamp;
    if ($age > TOLERANCE_SECONDS) {
        throw new Refused('timestamp_too_old');
    }
    if ($age < -TOLERANCE_SECONDS) {
        throw new Refused('timestamp_too_new');
    }
    foreach ($keys as $key) {
        $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
        foreach (explode(' ', $signatures) as $given) {
            if (hash_equals($expected, $given)) {
                return;
            }
        }
    }
    throw new Refused('no_matching_signature');
}

function signing_key(string $secret): string
{
    $key = base64_decode(preg_replace('/\Awhsec_/', '', $secret), true);
    if ($key === false || $key === '') { // with an empty key anyone could sign
        throw new Refused('malformed_secret');
    }
    return $key;
}

if (realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    [, $id, $timestamp, $signature] = $argv;
    $headers = ['webhook-id' => $id, 'webhook-timestamp' => $timestamp, 'webhook-signature' => $signature];
    $secrets = preg_split('/\s+/', (string) getenv('WEBHOOK_SECRETS'), -1, PREG_SPLIT_NO_EMPTY);
    try {
        verify($secrets, $headers, file_get_contents('php://stdin'), isset($argv[4]) ? (int) $argv[4] : null);
    } catch (Refused $refused) {
        echo $refused->getMessage(), "\n";
        exit(1);
    }
    echo "verified\n";
}
