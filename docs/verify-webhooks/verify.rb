# Verifies a delivery of checkoutd with Ruby's standard library.
#
#   WEBHOOK_SECRETS="whsec_… [whsec_…]" ruby verify.rb ID TIMESTAMP SIGNATURE [NOW] <BODY
#
# ID, TIMESTAMP and SIGNATURE are the values of the three webhook-* headers, BODY is the raw body. NOW, in Unix
# seconds, is for tests. Prints `verified` and exits with 0, or prints why not and exits with 1.

require "openssl"

TOLERANCE_SECONDS = 5 * 60

# Not to be trusted; the message says why.
class Refused < StandardError; end

# Raises Refused unless one of the secrets signed this body, and recently.
def verify(secrets, headers, body, now = Time.now.to_f)
  keys = secrets.map { |secret| signing_key(secret) }
  raise Refused, "malformed_secret" if keys.empty?
  id, timestamp, signatures = headers.values_at("webhook-id", "webhook-timestamp", "webhook-signature")
  raise Refused, "missing_header" if [id, timestamp, signatures].any? { |value| value.nil? || value.empty? }
  raise Refused, "malformed_timestamp" unless timestamp.match?(/\A[0-9]{1,12}\z/)
  age = now - timestamp.to_i
  raise Refused, "timestamp_too_old" if age > TOLERANCE_SECONDS
  raise Refused, "timestamp_too_new" if age < -TOLERANCE_SECONDS
  content = "#{id}.#{timestamp}.".b + body.b
  verified = keys.any? do |key|
    digest = OpenSSL::HMAC.digest("SHA256", key, content)
    expected = "v1,#{[digest].pack("m0")}"
    signatures.split(" ").any? { |given| OpenSSL.secure_compare(given, expected) }
  end
  raise Refused, "no_matching_signature" unless verified
end

def signing_key(secret)
  key = secret.delete_prefix("whsec_").unpack1("m0")
  raise Refused, "malformed_secret" if key.empty? # with an empty key anyone could sign
  key
rescue ArgumentError
  raise Refused, "malformed_secret"
end

if $PROGRAM_NAME == __FILE__
  abort "verify.rb ID TIMESTAMP SIGNATURE [NOW] <BODY" unless [3, 4].include?(ARGV.size)
  headers = %w[webhook-id webhook-timestamp webhook-signature].zip(ARGV).to_h
  now = ARGV[3] ? Integer(ARGV[3], 10) : Time.now.to_f
  begin
    verify(ENV.fetch("WEBHOOK_SECRETS", "").split, headers, $stdin.binmode.read, now)
  rescue Refused => refused
    puts refused.message
    exit 1
  end
  puts "verified"
end
